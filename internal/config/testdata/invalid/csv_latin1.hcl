replication "default" {}
launch "default" {}
locals {
  rows = csvdecode(file("latin1.csv"))
}
