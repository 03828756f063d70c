"""Planning: whether a training fits a device, and how long it takes, before it starts."""
