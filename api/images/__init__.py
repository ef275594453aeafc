"""Pictures of items over HTTP: found, opened again, compared with what was classified, and sent."""
