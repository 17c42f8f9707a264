"""Turning messages into deliveries, attempts and settlements."""
