"""The broker over gRPC."""
