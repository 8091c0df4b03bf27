"""What runs and caches take, and how they are removed when somebody asks for it."""
