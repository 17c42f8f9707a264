"""Where topics, messages and subscriptions live."""
