replication "default" {}
launch "default" {}
launch "reached" {
  ssh {
    key_file = "/etc/rehost/keys/checks"
  }
}
check "web" {
  kind = "unit"
  unit = "nginx.service"
}
server "a" {
  checks = [check.web]
}
server "b" {
  launch = launch.reached
  checks = [check.web]
}
