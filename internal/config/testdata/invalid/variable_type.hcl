variable "ports" {
  default = true
}
replication "default" {}
launch "default" {}
launch "web" {
  ingress_ports = var.ports
}
