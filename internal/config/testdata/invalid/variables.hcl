variable "subnet" {}

variable "size" {
  default = upper("a", "b")
}

locals {
  a = local.b
  b = local.a
  c = var.sbnet
  d = server.web-1
  e = local.f
}

replication "default" {
  subnet = var.subnett
  image  = local.missing
}
