"""One module a system, each with its class as `SYSTEM`; imported only in the system's own process."""
