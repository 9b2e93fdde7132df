replication "default" {}
launch "default" {}
launch "web" {
  ingress_ports = [80, 70000]
}
