# What webhooks cost whose filters refuse an event by a bound: all of them are evaluated.
use v5.36;
use utf8;

use Headgate::Bench::Matching qw(matching_row);

return matching_row(
    name       => 'matching_bounds',
    which      => 'whose bounds refuse it',
    changes    => q{events = '["*"]', event_filters = '{"customer":{"id":{"$lt":' || i || '}}}'},
    conditions => ['all webhooks want every type, and an upper bound of customer.id below all of these; all of one organization, and each is counted hourly'],
);
