"""Calls on a descriptor: its life, its options, and messages to and from the kernel."""
