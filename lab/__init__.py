"""A lab of real systemd hosts on one machine, and the story that is played on them."""
