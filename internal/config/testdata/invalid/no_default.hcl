replication "main" {}

server "web-1" {}
