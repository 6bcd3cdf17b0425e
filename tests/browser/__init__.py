"""What a visitor's browser shows: the real widget, a real Chromium and a real service."""
