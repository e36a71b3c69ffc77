"""One face for every device: choose one, wait for it, ask it for memory, peaks, fused operators and its environment.

The rest of the project never names a device type. A new device is a subclass of `Device` in a file of its own, and one row in
`selection.py` (or in another package, one entry point of the group `ivit_helpers.devices`).
"""
