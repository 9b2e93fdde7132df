replication "default" {}
launch "default" {}
locals {
  a = jsondecode("{")
}
