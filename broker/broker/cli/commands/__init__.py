"""The commands, a module each: what can be asked for, not yet how it is done."""
