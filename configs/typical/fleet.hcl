# A shop of three applications in two waves. Values that differ between accounts are
# variables: rehost plan configs/typical --var-file configs/typical/production.vars

variable "subnet" {
  default     = "subnet-0aaaaaaaaaaaaaaaa"
  description = "where targets start"
}

variable "test_subnet" {
  default = "subnet-0bbbbbbbbbbbbbbbb"
}

locals {
  team = { team = "shop", project = "move-2027" }
}

replication "default" {
  volume_type = "auto"
  tags        = local.team
}

launch "default" {
  instance_type   = "auto"
  subnet          = var.subnet
  test_subnet     = var.test_subnet
  security_groups = ["sg-0aaaaaaaaaaaaaaaa"]
  http_tokens     = "required"
  tags            = local.team

  # How actions and checks get a shell on what was launched. The key is a file of the controller's machine.
  ssh {
    user     = "migration"
    key_file = "/etc/rehost/keys/checks"
  }
}

launch "db" {
  from          = launch.default
  instance_type = "r6i.xlarge"
  private_ip    = "copy"

  disk "/dev/sdb" {
    volume_type = "io2"
    iops        = 8000
  }
}

check "web" {
  kind = "http"
  path = "/health"
}

check "ssh" {
  kind = "tcp"
  port = 22
}

check "volumes" {
  kind = "mounts"
  free = "1GiB"
}

check "database" {
  kind = "unit"
  unit = "postgresql.service"
}

# It runs on the targets of a cutover before their checks; a test must not be in the load balancer.
action "register" {
  phase      = "cutover"
  repeatable = true
  content    = "#!/bin/sh -eu\ncurl -fsS -X PUT \"https://lb.example.org/pool/shop/$(hostname)\"\n"
}

dynamic "server" {
  for_each = toset(["web-1", "web-2", "web-3"])
  labels   = [server.value]
  content {
    checks  = [check.web, check.ssh]
    actions = [action.register]
  }
}

server "db-1" {
  launch = launch.db
  disks  = ["/dev/sda", "/dev/sdb"]
  checks = [check.volumes, check.database]
}

server "batch-1" {
  checks = [check.ssh]
}

application "database" {
  servers = [server.db-1]
}

application "shop" {
  servers = [for n in range(1, 4) : "web-${n}"]
}

application "batch" {
  servers = [server.batch-1]
}

wave "foundation" {
  applications = [application.database]
}

wave "shop" {
  applications = [application.shop, application.batch]
  after        = [wave.foundation]
  concurrency  = 3
}
