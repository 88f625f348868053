"""What a log or predictions would say of another policy, another c, or a world without direct effects."""
