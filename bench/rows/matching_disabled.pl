# What webhooks cost that are disabled.
use v5.36;
use utf8;

use Headgate::Bench::Matching qw(matching_row);

return matching_row(
    name       => 'matching_disabled',
    which      => 'that are disabled',
    changes    => q{events = '["*"]', is_active = 0},
    conditions => ['all webhooks want every type, and are disabled; all of one organization, and each is counted hourly'],
);
