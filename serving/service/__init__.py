"""The gRPC services, admission, and the one place that turns our errors into gRPC codes."""
