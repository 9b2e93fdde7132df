replication "default" {}
launch "default" {}
server "Web_1" {}
