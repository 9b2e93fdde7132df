replication "default" {}
launch "default" {}
locals {
  rows = csvdecode("name\na\n")
}
dynamic "server" {
  for_each = local.rows
  labels   = [server.value.nmae]
  content {}
}
