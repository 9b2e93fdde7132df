check {
  port = 5
}

wave "a" "b" {
  applications = []
}
