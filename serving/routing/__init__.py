"""Which package scores a request, as which scenario, and with which c."""
