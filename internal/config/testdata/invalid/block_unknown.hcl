replication "default" {}
launch "default" {}
sever "a" {}
