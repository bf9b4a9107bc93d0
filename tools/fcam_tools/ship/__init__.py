"""To the cameras: deploy, train anew, adapt to another site."""
