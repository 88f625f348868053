"""A prepared folder in the making: of which raw files it is made, what of it is done, and how it becomes the folder."""
