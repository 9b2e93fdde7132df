bus {
  embedded {}
}

cloud {
  region      = "eu-central-1"
  external_id = "of-the-customer"
}
