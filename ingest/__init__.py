"""From bytes to passages: parsing, splitting, embedding and search over one tenant's documents."""
