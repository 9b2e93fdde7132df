replication "default" {}
launch "web" {}

server "web-1" {
  launch      = replication.default
  replication = "web"
  checks      = launch.web
}

server "web-2" {
  launch = 5
  checks = ["http"]
}
