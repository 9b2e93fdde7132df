replication "default" {}
launch "default" {}
application "shop" {}
