replication "default" {}
launch "default" {}
locals {
  rows = csvdecode(file("utf16.csv"))
}
