# A mail reader on Perl's Net::POP3: fetch_net_pop3.pl PORT USER PASSWORD DIRECTORY SEEN keep|delete
# Stores each message whose unique-id is not in the file SEEN, with LF line ends, and writes its unique-id there.

use strict;
use warnings;
use Net::POP3;

my ($port, $user, $password, $directory, $seen_file, $wish) = @ARGV;

my %seen;
if (open my $file, '<', $seen_file) {
    chomp(my @known = <$file>);
    @seen{@known} = ();
}
my $pop = Net::POP3->new('127.0.0.1', Port => $port, Timeout => 20) or die "no connection: $@\n";
defined $pop->login($user, $password) or die 'login: ' . $pop->message;
my $unique_ids = $pop->uidl or die 'UIDL: ' . $pop->message;
for my $number (sort { $a <=> $b } keys %$unique_ids) {
    my $unique_id = $unique_ids->{$number};
    next if exists $seen{$unique_id};
    my $lines = $pop->get($number) or die "RETR $number: " . $pop->message;
    open my $out, '>:raw', "$directory/$unique_id" or die "$directory/$unique_id: $!\n";
    print $out @$lines;
    close $out or die "$directory/$unique_id: $!\n";
    $seen{$unique_id} = undef;
    $wish ne 'delete' or $pop->delete($number) or die "DELE $number: " . $pop->message;
}
$pop->quit or die 'QUIT: ' . $pop->message;
open my $file, '>', $seen_file or die "$seen_file: $!\n";
print $file "$_\n" for sort keys %seen;
