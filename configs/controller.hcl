# The controller's configuration: /etc/rehost/controller.hcl. Every commented line shows a default.

# data_dir = "/var/lib/rehost-controller"

# The folder of the programs that command gates may run. Without it none are run. Operators choose their arguments.
# Example: gate_commands = "/etc/rehost/gates"

# The bus: inside the controller, or an existing NATS cluster with TLS, JetStream and operator-mode JWT.
bus {
  embedded {
    # listen = "0.0.0.0:4222"
  }

  # servers       = ["tls://bus-1.example.com:4222", "tls://bus-2.example.com:4222"]
  # ca_file       = "/etc/rehost/ca.pem"
  # identity_file = "/var/lib/rehost-controller/identity.json"
  # authority_dir = "/etc/rehost/authority"
}

# Where instances and volumes are: EC2, or an endpoint that speaks its API.
cloud {
  region = "eu-central-1"

  # endpoint         = "" # EC2's own for the region
  # credentials_file = "" # the AWS SDK's chain: environment, instance role
  # profile          = ""
  # role_arn         = "" # role of the target account to assume, such as "arn:aws:iam::123456789012:role/rehost-controller"
  # external_id      = "" # that the role's trust policy asks for
}

# The bus as replication servers reach it from their subnet.
replica_bus {
  servers = ["tls://10.0.0.5:4222"]
}

# What all jobs together do.
jobs {
  # servers = 20 # worked on at once; waves and replication blocks have a concurrency of their own
  # ready   = 2  # of which it is found out at once whether they would boot (`ready` in their launch blocks)
}

# Who is told of events: any number of these blocks (docs/operations.md, "Webhooks").
# webhook "ops" {
#   url         = "https://example.com/hook"
#   secret_file = "/etc/rehost/ops.secret"
#   events      = ["server.*", "job.*"] # all
# }

log {
  # level  = "info" # trace, debug, info, warn, error
  # format = "json" # or text
}
