hostname = "web-1"
