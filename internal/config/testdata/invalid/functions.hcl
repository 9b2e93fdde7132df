locals {
  rows = csvdecode(file("missing.csv"))
  text = uper("a")
}

dynamic "server" {
  for_each = local.rows
  labels   = [server.value.name]
  content {
  }
}
