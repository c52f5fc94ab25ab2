"""An organisation, its administrator and a token of hers, which goes to the file that is named."""

import os
import sys

import django

django.setup()

from common.models import Org, PersonalAccessToken, Profile, User  # noqa: E402  (after setup)
from django.db import connection  # noqa: E402

user, _ = User.objects.get_or_create(email="gateway@example.com")
org, _ = Org.objects.get_or_create(name="Example")
with connection.cursor() as cursor:
    # Row-level security hides what belongs to another organisation than this.
    cursor.execute("select set_config('app.current_org', %s, false)", [str(org.id)])
profile, _ = Profile.objects.get_or_create(user=user, org=org, defaults={"role": "ADMIN", "is_active": True})
token, _ = PersonalAccessToken.generate(profile, "cdr-gateway")
with open(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    file.write(token)
