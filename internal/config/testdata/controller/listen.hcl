bus {
  ca_file = "/etc/ca.pem"
  embedded {
    listen = "4222"
  }
}

cloud {
  region           = "eu-central-1"
  credentials_file = "credentials"
}
