replication "default" {}
launch "default" {}
server "a" {}
server "a" {}
