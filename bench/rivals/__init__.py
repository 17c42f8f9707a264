"""Other brokers that a user could install, at the same work as this one."""
