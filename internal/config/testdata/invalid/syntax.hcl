replication "default" {
  window = 

server web-1 {
}
