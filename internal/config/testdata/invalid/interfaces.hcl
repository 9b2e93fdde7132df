replication "default" {}

launch "default" {
  test_subnet = "subnet-2"

  network_interface {
    subnet     = "subnet-3"
    private_ip = "10.0.3"
  }
  network_interface {
    private_ip = "10.0.4.7"
  }
  network_interface {
    private_ip = "10.0.4.7"
  }
  network_interface {
    private_ip      = "fe80::1"
    security_groups = "sg-1"
  }
}

launch "web" {
  subnet = "subnet-1"

  network_interface {
    private_ip = "10.0.5.7"
  }
}

server "web-1" {
  launch = launch.web
}

server "web-2" {
  launch = launch.web
}
