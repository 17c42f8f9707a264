"""Which messages a subscription wants: the filter dialects of the CloudEvents Subscriptions API."""
