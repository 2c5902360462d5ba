"""Keys and secrets on their way into RAM, and the form in which an app finds them."""
