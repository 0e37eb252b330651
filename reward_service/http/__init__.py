"""The HTTP wire, both ends of it."""

from reward_service.http.client import HttpClient as HttpClient
