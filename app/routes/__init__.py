"""The HTTP routes, one module per noun. Each turns a request into one call and its result into a response."""
