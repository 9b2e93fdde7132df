replication "default" {}
launch "default" {}
server "a" {}
wave "w" {
  applications = [server.a]
}
