"""Where images come from: folders, files, globs, manifests, lists on standard input, and archives."""
