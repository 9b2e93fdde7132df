replication "default" {}
launch "default" {}
locals {
  rows = csvdecode("name,type\na,b,c\n")
}
