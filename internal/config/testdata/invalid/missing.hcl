application "shop" {
}

wave "first" {
}

check "c" {
  port = 5
}
