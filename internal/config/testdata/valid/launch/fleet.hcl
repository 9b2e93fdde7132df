# Launch blocks that inherit, in an order that does not help.

replication "default" {
  volume_type = "auto"
}

launch "db-1" {
  from          = launch.base
  instance_type = "r5.large"
  private_ip    = "copy"
  tags          = { tier = "db" }

  disk "/dev/sdb" {
    volume_type = "io2"
    iops        = 9000
  }
  disk "/dev/sdc" {
    volume_type = "gp3"
    throughput  = 500
  }
}

launch "db-2" {
  from        = launch.db-1
  disposition = "stopped"

  test_identity = "new"

  ready {
    every = "off"
  }

  script "log" {
    phase   = "before-mount"
    content = "#!/bin/sh\nxfs_repair -L \"$${REHOST_DISKS%% *}p2\"\n"
  }
  script "address" {
    phase      = "after-conversion"
    timeout    = "30s"
    on_failure = "continue"
    content    = "#!/bin/sh\nsed -i s/db-2/db-2.test/ /etc/app.conf\n"
  }
  script "join" {
    content = "#!/bin/sh\nrealm join example.org\n"
  }

  network_interface {
    subnet               = "subnet-3"
    test_subnet          = "subnet-4"
    security_groups      = ["sg-4"]
    test_security_groups = ["sg-5"]
    private_ip           = "10.0.3.7"
  }

  disk "/dev/sdb" {
    iops = 4000
  }
}

launch "base" {
  instance_type        = "auto"
  subnet               = "subnet-1"
  test_subnet          = "subnet-2"
  security_groups      = ["sg-1"]
  test_security_groups = ["sg-2", "sg-3"]
  instance_profile     = "web"
  tenancy              = "dedicated"
  http_tokens          = "required"
  http_hop_limit       = 2
  user_data            = "#!/bin/sh\n"
  volume_type          = "gp2"
  tags                 = { team = "shop", tier = "web" }

  network_interface {}

  ready {
    every = "24h"
  }
}

server "db-1" {
  launch = launch.db-1
}

server "db-2" {
  launch = launch.db-2
}
