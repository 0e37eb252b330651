"""The rewards as a Ray Serve application. Ray is imported here and nowhere else in the service."""
